"""The command line: thin commands over the client, the plan and the services. Importing it loads no library
beyond the parser of arguments; each command imports what it needs when it runs."""
