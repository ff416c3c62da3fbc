"""Where records come from: every kind of source, by the material that it reads.

``source`` says what a source is, ``catalogue`` which kinds there are, ``record`` what identifies a
record, ``report`` what was lost; ``remote`` reads files by their address. Then one folder for each
material: ``web`` (crawls), ``warcs`` (archives of crawls), ``software`` (repositories and
packages), ``files`` (folders, PDF, tables, dumps, papers) and ``archives`` (what is packed).
"""
