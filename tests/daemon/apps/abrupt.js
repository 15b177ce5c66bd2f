// A server that knows no graceful stop, as a first page of any tutorial has it: nobody hears SIGTERM.
'use strict';
const http = require('node:http');

const served = `${process.env.SUPD_RELEASE}/${process.pid}`;
const body = '.'.repeat(1000);

http.createServer((request, response) => {
  response.setHeader('X-Served-By', served);
  response.setHeader('Content-Length', body.length);
  response.end(body);
}).listen({ fd: 3 });
