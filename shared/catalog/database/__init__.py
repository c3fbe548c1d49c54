"""The way to PostgreSQL: connections, transactions, errors.

catalog      the connection pool, transactions, translated errors
url_parsing  parsing of TOWLINE_DATABASE_URL
outages      which errors of PostgreSQL are an outage, by SQLSTATE
refusals     the other errors, as a sentence for operators
expressions  literals, lists of parameters, and planner hints in statements
paging       reading long lists page by page
"""
