"""Where records come from: one file per kind of source.

To read in this order: ``urls`` (one spelling for every address), ``fetch`` (bounded HTTP, never
into a private network), ``content_coding``, ``robots``, ``warc`` (archives, written and read),
``crawl`` (what puts these together), ``pydoc_site`` (a site that every machine has), ``packages``
(installed source code). ``record`` says what a raw row is, ``report`` counts what was lost.
"""
