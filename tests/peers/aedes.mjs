// A broker on a port of 127.0.0.1, with what it holds in memory: node aedes.mjs MODULES PORT
import { createServer } from 'node:net'
import { pathToFileURL } from 'node:url'

const [modules, port] = process.argv.slice(2)
const { Aedes } = await import(pathToFileURL(`${modules}/aedes/aedes.js`))
const broker = await Aedes.createBroker()
createServer(broker.handle).listen(Number(port), '127.0.0.1')
