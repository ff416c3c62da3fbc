"""Zip, tar and compressed files that cannot be trusted, read member by member within bounds.

To read in this order: ``names`` (what is an archive, and which paths are safe), ``unpacking``,
``tar_entries``, ``zip_entries``, ``walk`` (archives inside archives), ``members`` (all of it).
"""
