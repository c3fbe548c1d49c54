"""What exists before a test begins, made by the functions that production uses.

images         documents and rows of images
pulls          pulls in each state, with their layers
leases         leases on layers: live, expired, released
grown_catalog  a catalog with a year of pulls, made by SQL for its size
blobs          a volume's blobs
downloads      downloads of one large blob over several connections
facts          what `explain` reads about a pull
"""
