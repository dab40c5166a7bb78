"""The same work done by other frameworks on Redis, each at a pinned version in a virtual environment of its own.

`python -m benchmarks.peers` measures and prints them; `collect` is what `benchmarks.run` calls. One file is one peer.
The peers' programs and `work` run in environments where this project is not installed, so they import nothing of it.
"""
