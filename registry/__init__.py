"""Who is connected, what goes to whom, and what happened. Knows integrations and the bus, not the programs."""
