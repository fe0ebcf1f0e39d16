"""The daemon as a plain Twisted application: ``twistd -ny mpt.tac``.

The configuration directory is $MPT_CONFIG_DIR, else ./conf, else /etc/mpt.
"""

from twisted.application.service import Application

from mpt.daemon.tap import Options, makeService

options = Options()
options.parseOptions([])

application = Application("mpt")
makeService(options).setServiceParent(application)
