"""Less noise: what is told together, and what is not told at all. Alertmanager's grouping, inhibition and silences.

`group` is the state of a group and how it goes on, `digest` the words of its message, `mute` says what silences and
inhibitions keep quiet, `announce` the events of a silence: all four are pure. `store` keeps silences and what inhibits
in Redis, `sources` the group by which that is seen, `keeper` gathers alerts and tells of them when their time has come.
Time windows are `registry.routes.windows`.
"""
