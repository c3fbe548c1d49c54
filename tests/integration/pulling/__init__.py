"""The use cases on a real PostgreSQL, a real volume and a registry on a socket."""
