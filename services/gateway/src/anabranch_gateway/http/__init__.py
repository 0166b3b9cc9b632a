"""The web server: connections, middleware, problem documents, request bodies."""
