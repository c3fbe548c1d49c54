"""Authentication at a registry: challenges, tokens, credentials.

authenticator  answers challenges; keeps and renews what was accepted
challenges     parses `WWW-Authenticate`
token_request  which token the challenges ask for
tokens         fetches a Bearer token from a token service
credentials    finds a user name and a secret: registries file, Docker client, helpers
docker_config  reads the logins in the Docker client's config.json
"""
