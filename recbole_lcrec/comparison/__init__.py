"""Several models side by side: on one split, by one command, with the statistics that a claim needs.

``specs`` reads what is to be compared, ``plan`` checks every option before anything starts, ``runner`` runs each model
and seed in a process of its own, ``results`` reads what they left, ``statistics`` and ``slices`` compute, and
``leaderboard`` and ``report`` write. ``compare`` in ``command`` does all of it.
"""
