// MQTT.js as a process: node client.mjs MODULES PORT CLIENT_ID CLEAN WILL ACTION...
//   publish TOPIC PAYLOAD QOS RETAIN      ends when it is acknowledged
//   subscribe TOPIC QOS                   prints "subscribed", then a line a message: topic, payload, qos, retained
//   stay                                  prints "connected" and waits
import { createRequire } from 'node:module'

const [modules, port, clientId, clean, will, action, ...rest] = process.argv.slice(2)
const mqtt = createRequire(`${modules}/`)('mqtt')
const options = { clientId, clean: clean === 'true', protocolVersion: 4, reconnectPeriod: 0 }
if (will) options.will = { topic: will, payload: 'gone', qos: 1, retain: false }
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, options)
client.on('error', (error) => { console.error(error.message); process.exit(1) })
client.on('message', (topic, payload, packet) => console.log([topic, payload, packet.qos, packet.retain].join(' ')))
client.on('connect', async () => {
  if (action === 'publish') {
    const [topic, payload, qos, retain] = rest
    await client.publishAsync(topic, payload, { qos: Number(qos), retain: retain === 'true' })
    await client.endAsync()
  } else if (action === 'subscribe') {
    const granted = await client.subscribeAsync(rest[0], { qos: Number(rest[1]) })
    console.log(granted[0].qos === 128 ? 'refused' : 'subscribed')
  } else {
    console.log('connected')
  }
})
