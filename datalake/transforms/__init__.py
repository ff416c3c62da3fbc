"""Bytes to text: what a reader of every format makes of a record.

``text`` says what a reader returns, ``normalise`` is for all of it, ``formats`` says which reader
reads what. Readers: ``html_text`` (with ``html_blocks`` and ``html_precise``), ``code_text`` (with
``code_language`` and ``code_flags``), ``wikitext``, ``latex_text``, ``pdf_text``, and ``file_text``
for folders (with ``notebook_text``, ``mail_text``, ``office_text`` and others). A file whose name
begins like that of a reader is a part of it. ``language`` comes last.
"""
