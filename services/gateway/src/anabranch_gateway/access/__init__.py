"""Authentication, roles, projects, and the audit log."""
