"""Small real things: a registry that speaks HTTP on a socket, and Debian's own."""
