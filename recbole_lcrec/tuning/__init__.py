"""Searching hyper-parameters with Ray Tune.

A search takes one path: settings and space are read and checked (``search_settings``, ``space``), the configurations
are drawn (``search``), Ray runs them as trials (``runner``, ``trial``, ``schedulers``), every event is written to a
journal (``journal``), and results and page are made from the journal alone (``results``, ``report``). A plain run
imports the settings alone, and Ray is imported only when a search starts.
"""
