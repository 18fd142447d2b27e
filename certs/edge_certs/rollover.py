"""Another key for an account (RFC 8555 section 7.3.5), so that no crash leaves an account whose key nobody has.

The new key is on the disk, beside the old one, before the authority hears of it. When a change is found unfinished, the
authority is asked which of the two keys is the account's.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge_certs.acme import AcmeProblem, Call, Resource
from edge_certs.acme_client import AcmeClient
from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import write_private
from edge_certs.issuance import Issuer
from edge_certs.jws import AccountKey
from edge_certs.storage import Account, AuthorityFolder, read_secret


async def roll_over(issuer: Issuer, directory: str) -> Account:
    """Return the account at the authority with this directory after its key has been changed, on both sides.

    Raises CertificateError: there is no account, or the authority refused; the old key is still the account's then.
    """
    folder = issuer.storage.authority(directory)
    with folder.locked():
        account = folder.account()
        if account is None:
            raise CertificateError(
                f"no account at {directory}", "one is made with the first certificate: edge cert issue NAME"
            )
        async with issuer.client(directory) as client:
            pending = folder.folder / "account.key.new"
            key = _read(pending)
            if key is not None and await _is_known(client, account, key):
                return _finish(folder, account, key, pending)
            new = AccountKey.generate()
            await client.roll_over(new, lambda key: write_private(pending, key.pem))
            return _finish(folder, account, new, pending)


async def _is_known(client: AcmeClient, account: Account, key: AccountKey) -> bool:
    """Whether the authority went over to `key` before we heard of it."""
    try:
        answer = await client.call(Call(Resource.NEW_ACCOUNT, {"onlyReturnExisting": True}, key=key))
    except AcmeProblem:
        return False
    return answer.location == account.url


def _finish(folder: AuthorityFolder, account: Account, key: AccountKey, pending: Path) -> Account:
    changed = Account(account.directory, account.url, account.contacts, key)
    folder.save(changed)
    pending.unlink(missing_ok=True)
    return changed


def _read(path: Path) -> AccountKey | None:
    """The key of a change that was begun; None when there was none."""
    if not os.path.lexists(path):
        return None
    content = read_secret(path, "account key")
    with naming(f"account key {place(path)}"):
        return AccountKey.parse(content)
