"""Makes ``twistd mpt`` known. No ``__init__.py`` may stand beside or above this file: it would hide Twisted itself."""

from twisted.application.service import ServiceMaker

mpt = ServiceMaker("mpt", "mpt.daemon.tap", "Multipath tunnel: one interface over many paths", "mpt")
