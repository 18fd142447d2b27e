# edge serve --dev --max-body 2GiB --app-dir examples digest:app
"""A large upload with Quart (pip install quart): the SHA-256 of a file, which is never whole in memory.

Choose a file at https://localhost:8443, or `curl --upload-file FILE https://localhost:8443/digest`. edge passes the
content on as the application reads it, and refuses more than `--max-body` before the application is asked.
"""

from hashlib import sha256

from quart import Quart, request

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Digest</title>
<input id="file" type="file">
<p id="digest"></p>
<script>
  document.getElementById("file").onchange = async (event) => {
    const answer = await fetch("/digest", {method: "PUT", body: event.target.files[0]});
    document.getElementById("digest").textContent = await answer.text();
  };
</script>
"""

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = None  # the limit is --max-body, in one place
app.config["BODY_TIMEOUT"] = None  # and who is too slow is ended by --body-min-rate


@app.get("/")
async def page() -> str:
    """Return the page that uploads."""
    return PAGE


@app.put("/digest")
async def digest() -> str:
    """Return the digest of the content, piece by piece."""
    result = sha256()
    async for piece in request.body:
        result.update(piece)
    return result.hexdigest() + "\n"
