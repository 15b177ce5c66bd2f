// A Node.js server on the inherited descriptor 3. It ends gracefully on SIGTERM, and says READY=1
// through systemd-notify once it listens: Node.js cannot send datagrams to a UNIX socket.
'use strict';
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const version = fs.readFileSync(path.join(__dirname, 'version'), 'utf8').trim();
const body = '.'.repeat(1000) + '\n';
let ending = false;

const server = http.createServer((request, response) => {
  const answer = () => {
    // While ending, each answer says that it is the last on its connection: a client that is told
    // loses nothing.
    if (ending) response.setHeader('Connection', 'close');
    response.setHeader('X-Served-By', `${version}/${process.pid}`);
    response.setHeader('Content-Length', body.length);
    response.end(body);
  };
  if (request.url === '/slow') setTimeout(answer, 100);
  else answer();
});

process.on('SIGTERM', () => {
  ending = true;
  server.close(() => process.exit(0));
});

server.listen({ fd: 3 }, () => {
  execFile('systemd-notify', ['--ready'], (error) => {
    if (error) throw error;
  });
});
