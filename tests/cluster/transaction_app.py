"""What consumes, transforms and produces in cluster tests: each step is one transaction.

As a program it takes messages of `orders` until it is killed: some go on to `shipments`, some become tasks. Its tasks,
which a worker runs, publish to `invoices` and complete themselves.
"""

import asyncio
import random
import sys

from taskraft import App, Batch, Client, Message, errors
from taskraft.errors import TaskraftError

LEASE_S = 2.0  # of what is pulled
LONG_S, SLOW = 2.5, 0.1  # some take longer than their lease: others have got it by then

app = App()
app.queue("billing", lease=2, max_attempts=20, backoff=0.05)


@app.task(queue="billing")
def bill(order: str) -> None:
    with app.client.transaction() as tx:
        tx.publish("invoices", order.encode())
        tx.complete(order)


def is_billed(order: bytes) -> bool:
    """Every third order becomes a task, and no shipment."""
    return int(order) % 3 == 0


async def transform(client: Client, some: Message | Batch, *, pause_s: float = 0.0) -> None:
    """One transaction: everything that these orders lead to, or nothing. With a pause before its end."""
    orders = [some.body] if isinstance(some, Message) else some.bodies()
    try:
        async with client.transaction(timeout=60) as tx:
            for order in orders:
                if is_billed(order):
                    tx.submit(bill, order.decode())
                else:
                    tx.publish("shipments", order)
            tx.ack(some)
            await asyncio.sleep(pause_s)
    except errors.LeaseLost:
        return  # somebody else has them, or has done them
    except TaskraftError as error:
        print(error, flush=True)
        await some.nack()


async def process(addresses: str, style: str) -> None:
    """Takes them one by one, several at a time, or pulls them."""
    dice = random.Random()
    app.addresses = addresses
    async with Client(addresses) as client:
        queue = client.queue("orders")
        if style == "pull":
            while True:
                pulled = await queue.pull(max_messages=dice.randrange(1, 9), wait=1.0)
                pause_s = LONG_S if dice.random() < SLOW else 0.0
                await asyncio.gather(*(transform(client, one, pause_s=pause_s) for one in pulled.batches))
        async with queue.consume(prefetch=20) as consumer:
            if style == "one":
                async for message in consumer:
                    await transform(client, message)
            async for batch in consumer.batches():
                await asyncio.gather(*(transform(client, message) for message in batch.messages))


if __name__ == "__main__":
    asyncio.run(process(*sys.argv[1:]))
