"""Commands about the images on the volume.

ls       `towline ls`: every image
inspect  `towline inspect`: one image, and the files that make it up
history  `towline history`: the manifests that a tag has named
"""
