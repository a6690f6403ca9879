// Socket.IO with its WebSocket transport only; a broadcast is encoded once by its adapter.
const http = require("node:http");
const net = require("node:net");
const readline = require("node:readline");
const { Server } = require("socket.io");

const [port, feed] = process.argv.slice(2).map(Number);
const server = http.createServer();
const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false });
server.listen({ host: "127.0.0.1", port, backlog: 4096 });
net
  .createServer((socket) => {
    readline.createInterface({ input: socket }).on("line", (line) => io.emit("trend_update", JSON.parse(line)));
  })
  .listen(feed, "127.0.0.1");
