"""Searching hyper-parameters with Ray Tune.

A search goes one way: settings and space are read and checked (``settings``, ``space``), the configurations are drawn
(``plan``), Ray runs them as trials (``search``, ``trial``, ``schedulers``), every event is written to a journal
(``journal``), and results and page are made of the journal alone (``results``, ``report``). Nothing here is imported
by a plain run, and Ray only when a search starts.
"""
