# edge serve --dev --workers 1 --app-dir examples orders:app
"""FastAPI with background tasks: the client has its answer before the mail is sent (pip install fastapi).

Take an order at https://localhost:8443/docs. The orders are in the memory of one worker, hence `--workers 1`; an
application with more keeps such things in a database.
"""

import asyncio
from itertools import count
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, HTTPException, Query, Request
from pydantic import BaseModel

app = FastAPI(title="Orders")


class Order(BaseModel):
    """An order, and whether its mail has been sent."""

    number: int
    email: str
    mail_sent: bool = False


orders: dict[int, Order] = {}
numbers = count(1)


async def send_mail(order: Order) -> None:
    """Stand in for a slow mail server."""
    await asyncio.sleep(0.2)
    order.mail_sent = True


@app.get("/")
async def index(request: Request) -> dict[str, str]:
    """Show what the edge tells an application about its client."""
    client = request.client.host if request.client is not None else "unknown"
    return {"you": client, "url": str(request.url), "docs": str(request.url_for("swagger_ui_html"))}


@app.post("/orders", status_code=201)
async def create(email: Annotated[str, Query(pattern="@")], tasks: BackgroundTasks) -> Order:
    """Take an order and answer; the mail goes out afterwards, also while the server is stopping."""
    order = Order(number=next(numbers), email=email)
    orders[order.number] = order
    tasks.add_task(send_mail, order)
    return order


@app.get("/orders/{number}")
async def read(number: int) -> Order:
    """Return an order."""
    if number not in orders:
        raise HTTPException(404, f"no order {number}")
    return orders[number]
