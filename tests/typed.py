"""The shell commands of README, getting-started and recipes: which test types them, and why nobody types the others.

`tests/netns/typist.py` types a piece of text; a test that is given pieces must type all of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = ("README.md", "docs/getting-started.md", "docs/recipes.md")
PROMPT: Final = re.compile(r"    (?:(\w+)?# |\$ )(.*)")
PROGRAM: Final = re.compile(  # a block without prompts is of commands if this begins it
    r"    (?:[./][\w./-]+|apt-get|chown|cp|ln|mkdir|mpt|mptsrv|nft|podman|python3|rm|sysctl|systemctl|useradd)( |$)"
)
REMARK: Final = re.compile(r" {2,}[(#].*$")  # behind a command
BLOCK: Final = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """A command, and the host at which it is typed; "": any."""

    host: str
    command: str


class Piece(NamedTuple):
    """The text of a document below a heading, from behind `after` to `before`, if these are not empty."""

    document: str
    heading: str = ""
    after: str = ""
    before: str = ""

    @property
    def text(self) -> str:
        """Return the text; each of the marks must be there."""
        text = (ROOT / self.document).read_text(encoding="utf-8")
        if self.heading:
            level = self.heading.partition(" ")[0]
            assert f"\n{self.heading}\n" in text, self
            text = text.partition(f"\n{self.heading}\n")[2]
            text = re.split(rf"\n#{{1,{len(level)}}} ", text)[0]
        assert self.after in text, self
        text = text.partition(self.after)[2] if self.after else text
        assert self.before in text, self
        return text.partition(self.before)[0] if self.before else text

    @property
    def steps(self) -> list[Step]:
        """Return the commands, in their order."""
        return commands(self.text)

    @property
    def blocks(self) -> list[str]:
        """Return what stands in fences: pieces of files."""
        return BLOCK.findall(self.text)


def commands(text: str) -> list[Step]:
    """Return the commands of a text: in blocks of four spaces the lines with a prompt, or all lines of a block whose
    first word is a program."""
    found = []
    for block in re.findall(r"(?:^    \S.*\n)+", BLOCK.sub("", text), re.MULTILINE):
        lines = block.splitlines()
        prompts = [match for match in map(PROMPT.fullmatch, lines) if match]
        if prompts:
            found += [Step(match[1] or "", REMARK.sub("", match[2])) for match in prompts]
        elif PROGRAM.match(block):
            found += [Step("", REMARK.sub("", line.strip())) for line in lines]
    return found


GUIDE: Final = "docs/getting-started.md"
RECIPES: Final = "docs/recipes.md"
HOME: Final = "## A home router with DSL and LTE"
EVERYTHING: Final = "## Everything through the tunnel"
BEHIND: Final = "## DSL and LTE, everything through the tunnel"
SEALED: Final = "## From plain to sealed"

# by the word for it in its test, which types them all
TYPED: Final = {
    "five commands": (
        Piece(GUIDE, "## Five commands", before="    ufw allow"),
        Piece("README.md", before="## Install", after="in five commands, as root:"),
        Piece(GUIDE, "## Five commands", "laptop# mptsrv\n", "TEXT is the line"),
        Piece(GUIDE, "## Five commands", "TEXT is the line"),
        Piece(GUIDE, "### Upgrade, uninstall", "--upgrade .\n", "    systemctl restart"),
    ),
    "two cables": (
        Piece(GUIDE, "## Two hosts, two cables", "On host A:\n", "On host B:\n"),
        Piece(GUIDE, "## Two hosts, two cables", "On host B:\n", "Change interface names"),
        Piece(GUIDE, "## Two hosts, two cables", "Then check, and start on both:", "`mpt check` says"),
        Piece(GUIDE, "## Two hosts, two cables", "in another terminal:", "### "),
    ),
    "with the system": (
        Piece(GUIDE, "### Start it with the system", "no-create-home mpt\n", "    systemctl daemon-reload"),
    ),
    "home router": (
        Piece(GUIDE, HOME, before="On the VPS let only"),
        Piece(GUIDE, HOME, "### Start and look"),
        Piece(GUIDE, EVERYTHING, before="```\ntable ip mpt_nat"),
        Piece(GUIDE, EVERYTHING, "over them, and the routes to the VPS", "Hosts behind the router"),
        Piece(GUIDE, "### mtu"),
        Piece(RECIPES, SEALED, before="`auth_type` and"),
        Piece(RECIPES, SEALED, "2>&1 &\n", "(Typed over SSH"),
        Piece(RECIPES, SEALED, "What shows that it is sealed:\n"),
    ),
    "a laptop": (Piece(RECIPES, "## A laptop behind NAT"),),
    "everything": (
        Piece(RECIPES, BEHIND, before="At the router, `mpt join`"),
        Piece(RECIPES, BEHIND, after="oifname", before="- **The default"),
        Piece(RECIPES, BEHIND, after="Measured there", before="    pc# iperf3 -c 2001"),
    ),
    "a camper": (Piece(RECIPES, "## A camper with Starlink and 5G"),),
    "two sites": (
        Piece(RECIPES, "## Two sites", before="The join text does not name"),
        Piece(RECIPES, "## Two sites", after="Both ends forward"),
    ),
    "IPv6 over IPv4": (
        Piece(RECIPES, "## IPv6 over IPv4", before="At `home`, replace"),
        Piece(RECIPES, "## IPv6 over IPv4", after="dst_addr = fd00:2::/64"),
    ),
    "from the C program": (Piece(RECIPES, "## From the C program"),),
    "without a host": (
        Piece("README.md", after="/usr/local/bin/\n", before="The daemon is `mptsrv`"),
        Piece(GUIDE, "## Install", after="/usr/local/bin/\n", before="This brings"),
    ),
}

_SYSTEM = "it would change the system on which the tests run"
_NOT_HERE = "the machine has no such program; typed by hand elsewhere, or not at all, as the document says"
_BY_HAND = "typed by hand, as the document says: it takes an image, or a capture with keys"
_INSTALLED = "tests/test_packaging.py installs wheel and source in an environment of their own"
UNTYPED: Final = {
    "./scripts/demo": "tests/netns/test_demo.py runs the demo, which this starts",
    "./scripts/test": "it runs the tests",
    "apt-get install python3-venv gcc python3-dev libssl-dev": _SYSTEM,
    "apt-get install python3-venv iproute2 gcc python3-dev libssl-dev": _SYSTEM,
    "apt-get install libipsec-mb-dev": _SYSTEM,
    "python3 -m venv /opt/mpt": _INSTALLED,
    "/opt/mpt/bin/pip install .": _INSTALLED,
    "/opt/mpt/bin/pip install --upgrade .": _INSTALLED,
    "ln -s /opt/mpt/bin/mptsrv /opt/mpt/bin/mpt /usr/local/bin/": _SYSTEM,
    "ufw allow 4754/udp": _NOT_HERE,
    "firewall-cmd --permanent --add-port=4754/udp && firewall-cmd --reload": _NOT_HERE,
    "systemctl restart mpt": _SYSTEM,
    "systemctl disable --now mpt": _SYSTEM,
    "rm -f /etc/systemd/system/mpt.service /usr/local/bin/mptsrv /usr/local/bin/mpt": _SYSTEM,
    "rm -rf /opt/mpt": _SYSTEM,
    "systemctl daemon-reload": _SYSTEM,
    "systemctl enable --now mpt": _SYSTEM,
    "journalctl -u mpt -f": _SYSTEM,
    "useradd --system --no-create-home mpt": _SYSTEM,
    "iperf3 -c 2001:db8:80::80 -R -t 5": "the internet of the test has IPv4 alone",
    "(sleep 60; mpt show status | grep -q 'keys .* old' || { cp /etc/mpt/connections/home.conf.plain "
    "/etc/mpt/connections/home.conf; mpt reload home.conf; }) > /dev/null 2>&1 &": "it waits for a minute",
    "tcpdump -i any -w sealed.pcap udp port 4754": _BY_HAND,
    "scripts/open-capture sealed.pcap /etc/mpt/keys.log": _BY_HAND,
    "tshark -r sealed.inner.pcap": _BY_HAND,
    "podman build -t mpt .": _BY_HAND,
    "podman run -d --name mpt --network host --device /dev/net/tun --cap-add NET_ADMIN --cap-add NET_RAW "
    "-v /etc/mpt:/etc/mpt mpt": _BY_HAND,
    "podman exec mpt mpt status": _BY_HAND,
    "podman stop mpt": _BY_HAND,
}
