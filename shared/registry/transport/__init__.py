"""Connections to registries: which address, which certificate, which deadline.

urls              URLs without user information; origins; URLs for messages
transport         sends every request: time-outs, redirects, which addresses are allowed
named_urls        which URLs that a registry names are followed
tls               the CA and the client certificate for one request
connections       connection pools, separate for public and private addresses
response_head     a deadline for the status line and the headers
dialing           resolves a name, checks the addresses and connects
addresses         which addresses are public, private or forbidden
transport_errors  the typed error of a request without a response
"""
