"""WARC archives: ours and those of others, from a disk or from a store.

To read in this order: ``capture`` (what an archive holds of a page), ``writer``, ``reader`` with
``digest``, ``warc_files``, ``cdx`` (where a page lies in a crawl), ``common_crawl``, ``references``
(payloads of rows that left them in their archives).
"""
