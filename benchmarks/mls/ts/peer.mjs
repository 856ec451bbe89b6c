// A ts-mls client behind lines of JSON: one request a line, one answer a line, bytes as hex.
// Used by the interoperability tests and the benchmark; `ms` in an answer is the time of the operation alone.
import { createInterface } from "node:readline"
import * as mls from "ts-mls"
import { createGroupInfoWithRatchetTree } from "./node_modules/ts-mls/dist/src/createCommit.js"

const impl = await mls.getCiphersuiteImpl(
  mls.getCiphersuiteFromName("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"),
)
const clients = new Map()
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"))
const hex = (data) => Buffer.from(data).toString("hex")
const text = (value) => new TextEncoder().encode(value)
const encode = (wireformat, field, value) =>
  hex(mls.encodeMlsMessage({ version: "mls10", wireformat, [field]: value }))
const decode = (data) => mls.decodeMlsMessage(bytes(data), 0)[0]

async function fresh(client) {
  const capabilities = {
    versions: ["mls10"],
    ciphersuites: [
      "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
      "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
    ],
    extensions: [],
    proposals: [],
    credentials: ["basic", "x509"],
  }
  const credential = { credentialType: "basic", identity: text(client.name) }
  const now = BigInt(Math.floor(Date.now() / 1000))
  const lifetime = { notBefore: now - 3600n, notAfter: now + 30n * 86400n }
  return client.signer
    ? mls.generateKeyPackageWithKey(credential, capabilities, lifetime, [], client.signer, impl)
    : mls.generateKeyPackage(credential, capabilities, lifetime, [], impl)
}

// external keys as given, resumption keys of this client's own epochs
const psks = (client, wanted) => ({
  findPsk(id) {
    if (id.psktype === "external") {
      const key = (wanted ?? {})[hex(id.pskId)]
      return key === undefined ? undefined : bytes(key)
    }
    if (id.pskEpoch === client.state.groupContext.epoch) return client.state.keySchedule.resumptionPsk
    return client.state.historicalReceiverData.get(id.pskEpoch)?.resumptionPsk
  },
})

// ts-mls 1.6.4 reads and writes external_pub without the length that RFC 9420 puts before a public key. It signs what
// it is given, so both sides of that are set right here: the length is added when writing, and left out when
// the extension is looked up (the signature is verified over the extension as it came).
function withoutLength(info) {
  const extensions = [...info.extensions]
  extensions.find = (test) => {
    const found = Array.prototype.find.call(extensions, test)
    return found?.extensionType === "external_pub"
      ? { ...found, extensionData: found.extensionData.slice(1) }
      : found
  }
  return { ...info, extensions }
}

async function externalPub(state) {
  const pair = await impl.hpke.deriveKeyPair(state.keySchedule.externalSecret)
  const key = await impl.hpke.exportPublicKey(pair.publicKey)
  return { extensionType: "external_pub", extensionData: Uint8Array.from([key.length, ...key]) }
}

function proposals(request) {
  const adds = (request.adds ?? []).map((data) => ({
    proposalType: "add",
    add: { keyPackage: decode(data).keyPackage },
  }))
  const removes = (request.removes ?? []).map((removed) => ({ proposalType: "remove", remove: { removed } }))
  const keys = (request.psk_ids ?? []).map((id) => ({
    proposalType: "psk",
    psk: { preSharedKeyId: psk_id(id) },
  }))
  return [...removes, ...adds, ...keys]
}

function psk_id(id) {
  const pskNonce = crypto.getRandomValues(new Uint8Array(32))
  return id.epoch === undefined
    ? { psktype: "external", pskId: bytes(id.id), pskNonce }
    : {
        psktype: "resumption",
        usage: "application",
        pskGroupId: bytes(id.group),
        pskEpoch: BigInt(id.epoch),
        pskNonce,
      }
}

const operations = {
  async create(client, request) {
    const own = await fresh(client)
    client.state = await mls.createGroup(bytes(request.group), own.publicPackage, own.privatePackage, [], impl)
    return {}
  },
  async key_package(client) {
    client.own = await fresh(client)
    client.signer = {
      signKey: client.own.privatePackage.signaturePrivateKey,
      publicKey: client.own.publicPackage.leafNode.signaturePublicKey,
    }
    return { data: encode("mls_key_package", "keyPackage", client.own.publicPackage) }
  },
  async join(client, request) {
    const { publicPackage, privatePackage } = client.own
    const welcome = decode(request.data).welcome
    const from = clients.get(request.from)?.state
    client.state =
      request.as === "branch"
        ? await mls.joinGroupFromBranch(from, welcome, publicPackage, privatePackage, undefined, impl)
        : request.as === "reinit"
          ? await mls.joinGroupFromReinit(from, welcome, publicPackage, privatePackage, undefined)
          : await mls.joinGroup(welcome, publicPackage, privatePackage, psks(client, request.psks), impl)
    return {}
  },
  async join_external(client, request) {
    if (!client.own) await operations.key_package(client)
    const { publicPackage, privatePackage } = client.own
    const info = withoutLength(decode(request.data).groupInfo)
    const made = await mls.joinGroupExternal(info, publicPackage, privatePackage, request.resync === true, impl)
    client.state = made.newState
    return { data: encode("mls_public_message", "publicMessage", made.publicMessage) }
  },
  async commit(client, request) {
    const made = await mls.createCommit(
      { state: client.state, cipherSuite: impl, pskIndex: psks(client, request.psks) },
      {
        extraProposals: proposals(request),
        ratchetTreeExtension: true,
        wireAsPublicMessage: request.public === true,
      },
    )
    client.state = made.newState
    return {
      data: hex(mls.encodeMlsMessage(made.commit)),
      welcome: made.welcome ? encode("mls_welcome", "welcome", made.welcome) : "",
    }
  },
  async process(client, request) {
    const message = decode(request.data)
    const index = psks(client, request.psks)
    // not processMessage: that one drops the keys for private messages
    const result =
      message.wireformat === "mls_public_message"
        ? { kind: "newState", ...(await mls.processPublicMessage(client.state, message.publicMessage, index, impl)) }
        : await mls.processPrivateMessage(client.state, message.privateMessage, index, impl)
    client.state = result.newState
    return { data: result.kind === "applicationMessage" ? hex(result.message) : "" }
  },
  async protect(client, request) {
    const made = await mls.createApplicationMessage(client.state, bytes(request.data), impl)
    client.state = made.newState
    return { data: encode("mls_private_message", "privateMessage", made.privateMessage) }
  },
  async export(client, request) {
    const secret = client.state.keySchedule.exporterSecret
    return { data: hex(await mls.mlsExporter(secret, request.label, bytes(request.context), request.length, impl)) }
  },
  async authenticator(client) {
    return { data: hex(client.state.keySchedule.epochAuthenticator) }
  },
  async group_info(client) {
    const { groupContext, confirmationTag, ratchetTree } = client.state
    const extensions = [await externalPub(client.state)]
    const info = await createGroupInfoWithRatchetTree(
      groupContext,
      confirmationTag,
      client.state,
      ratchetTree,
      extensions,
      impl,
    )
    return { data: encode("mls_group_info", "groupInfo", info) }
  },
  async reinit(client, request) {
    const made = await mls.reinitGroup(
      client.state,
      bytes(request.group),
      "mls10",
      "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
      [],
      impl,
    )
    client.state = made.newState
    return { data: hex(mls.encodeMlsMessage(made.commit)) }
  },
  async protect_many(client, request) {
    const messages = []
    for (let step = 0; step < request.count; step++)
      messages.push((await operations.protect(client, request)).data)
    return { messages }
  },
  async process_many(client, request) {
    for (const data of request.messages) await operations.process(client, { data })
    return {}
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  try {
    if (!clients.has(request.client)) clients.set(request.client, { name: request.name ?? request.client })
    const start = performance.now()
    const answer = await operations[request.op](clients.get(request.client), request)
    console.log(JSON.stringify({ ...answer, ms: performance.now() - start }))
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }))
  }
}
