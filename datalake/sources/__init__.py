"""Where records come from: one file per kind of source.

To read in this order: ``urls`` (one spelling for every address), ``fetch`` (bounded HTTP, never
into a private network), ``content_coding``, ``robots``, ``listing`` with ``sitemaps`` and ``feeds``
(lists of pages), ``warc_writer`` and ``warc`` (archives, written and read), ``known_pages`` (what
an earlier crawl left), ``frontier`` (what waits), ``crawler`` (what puts these together) and
``crawl`` (its settings), ``pydoc_site`` (a site that every machine has), ``packages`` (installed
source code). ``record`` says what a raw row is, ``report`` counts what was lost.
"""
