"""Pages of the web: fetched politely, found by links, sitemaps and feeds, kept in archives.

To read in this order: ``urls`` (one spelling for every address), ``fetch`` (bounded HTTP, never
into a private network), ``content_coding``, ``robots``, ``page_links``, ``listing`` with
``sitemaps`` and ``feeds``, ``discovery`` and ``frontier`` (what is to be fetched), ``known_pages``
(what an earlier crawl holds), ``crawler`` (what puts these together), ``crawl`` (the setting),
``pydoc_site`` (a site that every machine has).
"""
