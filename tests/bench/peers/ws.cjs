// node `ws`, as its documentation broadcasts: the message is made once, compression off.
const net = require("node:net");
const readline = require("node:readline");
const { WebSocketServer, WebSocket } = require("ws");

const [port, feed] = process.argv.slice(2).map(Number);
const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate: false, backlog: 4096 });
net
  .createServer((socket) => {
    readline.createInterface({ input: socket }).on("line", (line) => {
      const data = Buffer.from(line);
      for (const client of server.clients) {
        if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false });
      }
    });
  })
  .listen(feed, "127.0.0.1");
