"""What an adapter is (`base`), what it may raise (`errors`), its ways out and in (`http`, `signing`), and ours.

An adapter knows `eventbus.event` and these modules; never another adapter, never the registry.
"""
