"""Other systems, each a script that runs in an environment of its own and keeps to ``bench.peers.contract``."""
