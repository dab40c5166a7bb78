"""The HTTP gateway: signed webhooks and REST in, health and metrics out. It publishes; workers do the work."""
