"""One key for all spellings of a web address, so that a page is one document however it is linked.

Taken away is what seldom or never changes the page: the scheme, ``www.``, the port that the scheme
has anyway, the fragment, a slash at the end, parameters that only count visitors, and the order of
the others. Two addresses of one key may still be two pages, so a recipe has to ask for duplicates
by address.

An address need not name a document: rows of a table, members of an archive and messages of a
mailbox share that of their file and differ by their position in it. Such a *part* has no key. It is
told by its ``doc_id``, which is that of the address alone only where there is no position.
"""

from typing import TypeVar
from urllib.parse import urlsplit

import pyarrow as pa

from datalake.sources.record import doc_id

# Set by advertisers and mailers and read by scripts alone, as browsers know that strip them:
# Google, Microsoft, Meta, X, TikTok, LinkedIn, Yandex, Mailchimp, HubSpot, Marketo, Olytics, ...
_TRACKERS = frozenset(
    (
        "_ga", "_gl", "_hsenc", "_hsmi", "__hsfp", "__hssc", "__hstc", "__s", "dclid", "fbclid",
        "gad_source", "gbraid", "gclid", "gclsrc", "hsctatracking", "igshid", "li_fat_id",
        "mc_cid", "mc_eid", "mkt_tok", "ml_subscriber", "ml_subscriber_hash", "msclkid",
        "oly_anon_id", "oly_enc_id", "rb_clickid", "s_cid", "srsltid", "ttclid", "twclid",
        "vero_conv", "vero_id", "wbraid", "wickedid", "yclid", "ysclid",
    )
)  # fmt: skip
_TRACKER_PREFIXES = ("utm_", "mtm_", "pk_", "piwik_", "matomo_")
_PORTS = {"http": (None, 80), "https": (None, 443)}
_AS_THEY_ARE = str.maketrans({"\t": None, "\r": None, "\n": None})

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def url_key(uri: str) -> str:
    """The key of an address of ``http`` or ``https``; any other ``uri`` is its own.

    ``https://www.Example.org:443/a/?utm_source=x&b=2&a=1#top`` gives ``example.org/a?a=1&b=2``.
    """
    try:
        parts = urlsplit(uri.strip().translate(_AS_THEY_ARE))
        host, port = parts.hostname, parts.port
    except ValueError:  # half a bracket, a port that is no number
        return uri
    if parts.scheme not in _PORTS or not host:
        return uri
    host = host.removesuffix(".")
    if host.count(".") > 1:  # www.org is a name itself
        host = host.removeprefix("www.")
    if ":" in host:
        host = f"[{host}]"
    if port not in _PORTS[parts.scheme]:
        host += f":{port}"
    query = "&".join(sorted(p for p in parts.query.split("&") if p and not _is_tracker(p)))
    return host + parts.path.rstrip("/") + (f"?{query}" if query else "")


def url_keys(documents: Rows) -> pa.StringArray:
    """``url_key`` of each row of ``doc_id``, ``source``, ``uri``; empty for parts of a resource."""
    columns = (documents[name].to_pylist() for name in ("doc_id", "source", "uri"))
    keys = [
        url_key(uri) if doc_id(source, uri) == identity else ""
        for identity, source, uri in zip(*columns, strict=True)
    ]
    return pa.array(keys, pa.string())


def _is_tracker(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return name in _TRACKERS or name.startswith(_TRACKER_PREFIXES)
