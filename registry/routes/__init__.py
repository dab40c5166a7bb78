"""Which event goes where, and in which words: the `routes` of the settings.

`model` is what may be configured, `decide` says which routes an event takes and why not the others, `render` makes of
a taken route what the integration is given, `check` finds a file's faults before an event does, `diff` compares two
sets of routes. Everything here is pure: no clock, no Redis, no HTTP. Sending is `registry.dispatch`.
"""
