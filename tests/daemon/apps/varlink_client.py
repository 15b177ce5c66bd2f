"""The PyPI package varlink as a client of the control socket: what it understood, as JSON lines."""
import json
import sys

import varlink

address, unit = sys.argv[1:]
with varlink.Client(address) as client:
    print(json.dumps(client.get_interfaces() and client.info))
    with client.open("dev.supd.Manager") as manager:
        print(json.dumps(manager.Status(unit)))
        try:
            manager.Status("no-such-unit")
        except varlink.VarlinkError as error:
            print(json.dumps(error.as_dict()))
        # The connection lives on after a named error.
        print(json.dumps(manager.Status(unit)["units"][0]["state"]))
