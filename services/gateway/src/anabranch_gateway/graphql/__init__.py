"""The read-only GraphQL API: the same data as the routes of `/v1`, in the shape that a query asks for."""
