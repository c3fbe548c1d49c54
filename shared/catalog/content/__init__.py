"""What is on the volume: blobs, documents, images.

stored_blobs  which files are on the volume
documents     indexes, configs and manifests
diff_ids      what configs claim about layers, and what was computed
image_rows    which manifest a reference names, and its files
image_links   linking an image: what a reference names from now on
tag_history   which manifests a tag has named
layouts       whether a layout directory agrees with the image's row
"""
