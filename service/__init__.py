"""The programs: command line, worker, HTTP gateway. They wire the bus, the integrations and the registry together."""
