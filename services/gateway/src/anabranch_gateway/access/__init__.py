"""Who may call what: authentication, roles, projects, audit."""
