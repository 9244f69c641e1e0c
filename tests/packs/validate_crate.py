"""Runs the RO-Crate validator on a folder, in the validator's own environment; prints its report as JSON.

The context of RO-Crate 1.1 is taken from the library rocrate 0.14, so that no other host than the package index is
needed.
"""

from __future__ import annotations

import io
import json
import sys
import urllib.request
from email.message import Message
from importlib import resources
from urllib.response import addinfourl

import rdflib._networking
import requests
from rocrate_validator import services

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_TEXT = resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()
_TYPE = "application/ld+json"


def _open(request: urllib.request.Request, *_: object, **__: object) -> addinfourl:
    if request.full_url != CONTEXT:
        raise OSError(f"not at hand: {request.full_url}")
    headers = Message()
    headers["Content-Type"] = _TYPE
    return addinfourl(io.BytesIO(_TEXT), headers, CONTEXT, 200)


def _send(_: requests.Session, request: requests.PreparedRequest, **__: object) -> requests.Response:
    if request.url != CONTEXT:
        raise requests.ConnectionError(f"not at hand: {request.url}")
    response = requests.Response()
    response.status_code, response._content, response.url = 200, _TEXT, CONTEXT
    response.headers["Content-Type"] = _TYPE
    return response


def main(folder: str, severity: str) -> None:
    rdflib._networking.urlopen = _open
    requests.Session.send = _send
    settings = services.ValidationSettings(
        rocrate_uri=folder,
        profile_identifier="provenance-run-crate-0.5",
        requirement_severity=severity,
        no_cache=True,
    )
    result = services.validate(settings)
    issues = [{"severity": issue.severity.name, "message": issue.message} for issue in result.get_issues()]
    json.dump({"passed": result.passed(), "checks": len(result.executed_checks), "issues": issues}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
