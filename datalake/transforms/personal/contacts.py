"""Electronic mail addresses and network addresses.

An address of mail is a name, ``@`` and a host whose last label is a known top-level domain, so that
``A@B.T`` of matrices and ``icon@2x.png`` are none. Names may have accents; Han, Kana, Hangul and
Thai letters end one, since those scripts put no space before it. Internationalised hosts count.

Network addresses must parse with ``ipaddress``. Four small numbers may be a version as well: text
that says so, and versions' neighbours in code, are left alone.
"""

import ipaddress
import re
from collections.abc import Iterator

from datalake.transforms.personal.window import Match, Vocabulary, Window

_LOCAL = re.compile(r"[^\W_](?:[\w.%+'&~-]*[\w+~-])?\Z|_[\w.%+'&~-]*[\w+~-]\Z")
_LOCAL_RUN = re.compile(r"[\w.%+'&~-]*\Z")
_HOST = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W_](?:[\w-]{0,61}[^\W_])?")
_MAX_LOCAL = 64  # RFC 5321, 4.5.3.1.1
# Scripts without spaces between words; a name of mail ends where they begin.
_SPACELESS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7ff]")
_DOCUMENTATION_HOST = re.compile(  # RFC 2606 and 6761
    r"(?:.*\.)?(?:example\.(?:com|net|org|edu)|(?:.*\.)?(?:example|test|invalid|localhost))\Z"
)
# Every two-letter domain of the IANA root zone, and the general ones in wide use.
_COUNTRIES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br"
    " bs bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz"
    " ec ee eg er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw"
    " gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw"
    " ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu"
    " mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt"
    " pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc"
    " td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws"
    " ye yt za zm zw"
)
_GENERAL = (
    "com net org edu gov mil int arpa info biz name pro aero coop museum jobs mobi travel cat"
    " tel asia post academy agency app art associates bank berlin blog business cafe capital"
    " care careers center chat church city clinic cloud club codes coffee college community"
    " company computer consulting dental design dev digital directory education email"
    " energy engineer engineering events expert express family fashion finance fit foundation"
    " fund fun gallery games global gmbh graphics group guide guru health help holdings host"
    " hospital house icu institute international io kim lab land law legal life link live"
    " llc london love ltd management market marketing media moe money network news ngo nyc"
    " one ong online ooo page paris partners party photo photography photos pizza plus"
    " press properties pub radio realty rocks run sale school science security services shop"
    " site social software solutions space store stream studio style support systems team tech"
    " technology tips today tokyo top tours town trade training university vip website wiki win"
    " work works world wtf xyz yoga zone google apple microsoft amazon corsica bzh eus gal scot"
    " wales swiss koeln hamburg bayern wien moscow amsterdam brussels example test invalid"
    " localhost"
)
_INTERNATIONAL = (  # of the same zone, as they are written
    "рф рус укр бел мкд срб бг ею қаз мон орг ком сайт онлайн москва дети ελ ευ հայ გე"
    " 中国 中國 香港"
    " 台湾 台灣 新加坡 澳門 公司 网络 网址 网站 在线"
    " 移动 我爱你 中文网 みんな コム 한국 닷컴 ไทย คอม"
    " भारत ভারত ਭਾਰਤ"
    " ભારત இந்தியா ಭಾರತ భారత్ ලංකා இலங்கை বাংলা"
    " امارات السعودية الجزائر المغرب مصر قطر سورية تونس"
    " عمان فلسطين الاردن ایران پاکستان بھارت"
    " عراق ישראל קום"
)
_DOMAINS = frozenset(_COUNTRIES.split()) | frozenset(_GENERAL.split())
# "//user:password" of an address with both, which is not the name of a mailbox.
_USERINFO = re.compile(r"://[^\s/@]*:\Z")


def emails(window: Window) -> Iterator[Match]:
    """Addresses of mail around the ``@`` that the window is about."""
    text = window.plain
    run = _LOCAL_RUN.search(text, max(0, window.start - 2 * _MAX_LOCAL), window.start)
    if run is None or run.start() == window.start:
        return
    left = _SPACELESS.split(run.group())[-1]
    local = left.lstrip(".%+'&~-")
    if len(local) > _MAX_LOCAL or ".." in local or not _LOCAL.match(local):
        return
    if _USERINFO.search(text, 0, window.start - len(local)):
        return
    host = _HOST.match(text, window.end)
    if host is None:
        return
    name, end = host.group(), host.end()
    labels = name.split(".")
    while len(labels) > 1 and not (domain := _domain(labels[-1])):  # "me@host.org.See"
        end -= len(labels.pop()) + 1
    if len(labels) < 2:
        return
    end -= len(labels[-1]) - len(domain)
    following = text[end : end + 1]
    if following in ("(", "[", "@", "_") or (following == "/" and local == "git"):
        return
    if local == "git" and following == ":":  # an address of a repository, nobody's
        return
    value = f"{local}@{text[window.end : end]}".lower()
    documentation = _DOCUMENTATION_HOST.match(text[window.end : end].lower()) is not None
    yield Match(window.start - len(local), end, "email", value, documentation)


def _domain(label: str) -> str:
    """The top-level domain that a label is, or begins with where a text without spaces goes on."""
    domain = _LABEL_HEAD.match(label)
    if domain is None or (domain.group().isascii() and not _is_known(domain.group())):
        return ""
    return domain.group()


def _is_known(domain: str) -> bool:
    return domain.lower() in _DOMAINS or domain.lower().startswith("xn--")


# A domain, and nothing behind it or a script that puts no space there.
_LABEL_HEAD = re.compile(
    rf"(?:[a-z]{{2,}}|xn--[a-z0-9-]+|{'|'.join(sorted(_INTERNATIONAL.split(), reverse=True))})"
    rf"(?=\Z|{_SPACELESS.pattern})",
    re.IGNORECASE,
)


_VERSION = re.compile(
    r"(?:(?<![a-z])(?:versions?|vers?|v|release|rel|revision|build|firmware|chapter|section|sec|§"
    r"|clause|oid"
    r"|driver|chrome|chromium|crios|edge?|opr|safari|firefox|python|java|jdk|assembly|dll|update"
    r"|since|upgrade[sd]?|downgrade[sd]?|pip)|==|>=|<=|~=|\^)"
    r"[\w ]{0,8}['\"]?\s{0,2}[:=/_<>~(-]{0,3}\s{0,2}['\"]?[<>=~^v]{0,2}\s?\Z"
)
_LABEL = 32  # characters before an address that may call it a version
_NO_NEIGHBOURS = frozenset("v-_$%.")
# A list of numbers that are no addresses, as in paths of SVG.
_LIST = re.compile(r"(?<!\d)(?!\d{1,3}(?:\.\d{1,3}){3},)[\d.]+,\Z")
_DECIMAL = re.compile(r"(?<![\d.])\d*\.\d+(?!\.?\d+\.)")  # among others, as in such a path
_RESOLVERS = ("1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9")  # known by their numbers


def ipv4(window: Window) -> Iterator[Match]:
    """A public IPv4 address; private ones as well if the detector's user asks for them."""
    text = window.plain[window.start : window.end]
    if window.plain[window.end : window.end + 1] in ("-", "+") and not re.match(
        r"-\d", window.plain[window.end :]
    ):
        return  # 1.2.3.4-rc1
    before = window.before[-_LABEL:].lower()
    if before[-1:] in _NO_NEIGHBOURS or _VERSION.search(before) or _LIST.search(before):
        return
    if text.endswith(".0") and window.plain[window.end : window.end + 1] == "/":
        return  # a network, not a host
    if len(_DECIMAL.findall(before)) > 1 and not window.says(_ADDRESSES):
        return
    octets = [int(octet) for octet in text.split(".")]
    # Versions, sections and object identifiers are small numbers: of addresses only one in a
    # hundred has three octets below 30.
    small = sum(octet < 30 for octet in octets) >= 3 or octets[0] < 3
    if small and text not in _RESOLVERS and not window.says(_ADDRESSES):
        return
    yield Match(window.start, window.end, "ipv4", text)


def ipv6(window: Window) -> Iterator[Match]:
    """An IPv6 address that parses, without its zone or port."""
    text = window.plain[window.start : window.end].rstrip(".")
    if text.endswith("::") and window.plain[window.end : window.end + 1] == "/":
        return  # a network
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return
    yield Match(window.start, window.start + len(text), "ipv6", str(address))


def is_public(value: str) -> bool:
    """Whether an address is one of the open network: neither private nor for documentation."""
    address = ipaddress.ip_address(value)
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291, 2.4
_ADDRESSES = Vocabulary(
    "ip", "ipv4", "ips", "host", "hosts", "server", "servers", "dns", "address", "addresses",
    "addr", "network", "subnet", "gateway", "netmask", "proxy", "ping", "client", "whois",
    "listen", "peer", "nameserver", "login", "ssh", "http", "https", "地址", "服务器",
)  # fmt: skip
