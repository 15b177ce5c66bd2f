// Serves on the socket that supd lends, says when it does, and ends gracefully on SIGTERM.
'use strict';
const { execFile } = require('node:child_process');
const http = require('node:http');

// Descriptor 3, if it is meant for this process and was not inherited by mistake.
if (process.env.LISTEN_PID !== String(process.pid)) throw new Error('start me under supd');

const release = process.env.SUPD_RELEASE;
const body = `hello from release ${release}\n`;
let ending = false;

const server = http.createServer((request, response) => {
  const answer = () => {
    // While ending, each answer says that it is the last on its connection: a client that is told
    // loses nothing.
    if (ending) response.setHeader('Connection', 'close');
    response.setHeader('X-Served-By', `${release}/${process.pid}`);
    response.setHeader('Content-Length', body.length);
    response.end(body);
  };
  if (request.url === '/slow') setTimeout(answer, 100);
  else answer();
});

process.on('SIGTERM', () => {
  ending = true;
  server.close(() => process.exit(0)); // accepts no more, and waits for what it has accepted
});

server.listen({ fd: 3 }, () => {
  execFile('systemd-notify', ['--ready'], (error) => {
    if (error) throw error;
  });
});
