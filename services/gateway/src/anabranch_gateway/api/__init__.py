"""The routes of the HTTP API, their models and their OpenAPI description."""
