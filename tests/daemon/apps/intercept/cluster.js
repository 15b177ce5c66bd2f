// As the documentation of node:cluster has it: the primary binds, whatever its workers ask for.
'use strict';
const cluster = require('node:cluster');
const http = require('node:http');

if (cluster.isPrimary) {
  for (let count = 0; count < 2; count++) cluster.fork();
} else {
  http.createServer((request, response) => {
    response.setHeader('X-Served-By', `${process.env.SUPD_RELEASE}/${process.pid}`);
    response.setHeader('Content-Length', 6);
    response.end('hello\n');
  }).listen(@PORT@);
}
