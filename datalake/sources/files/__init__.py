"""Files on a disk: folder trees, PDF, tables, dumps of wikis and bundles of papers.

To read in this order: ``local_files`` and ``folder_trees`` (which files are meant), ``directories``
with ``mailboxes``, ``pdf``, ``wikipedia`` with ``dump_pages`` and ``dump_streams``, ``arxiv``, and
``table_files`` with ``table_rows`` and ``table_hub``.
"""
