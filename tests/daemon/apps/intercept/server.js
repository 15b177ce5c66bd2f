// As the first page of Node.js's own documentation has it.
'use strict';
const http = require('node:http');

http.createServer((request, response) => {
  response.setHeader('X-Served-By', `${process.env.SUPD_RELEASE}/${process.pid}`);
  response.setHeader('Content-Length', 6);
  response.end('hello\n');
}).listen(@PORT@);
