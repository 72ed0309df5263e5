-- Make one batch durable in one atomic step, or change nothing.
--
-- Lua has no rollback, so everything that could fail is checked before the first write. The
-- first write trims the inbox: it is allowed at maxmemory, and after it so is the rest.
--
-- KEYS[1]   fence: hash of epoch, token, commit_no, cursor
-- KEYS[2]   inbox: stream
-- KEYS[3..] every other key of the batch, once
--
-- ARGV[1]   epoch of the leader that commits
-- ARGV[2]   its token
-- ARGV[3]   number of this commit
-- ARGV[4]   cursor: id of the last inbox entry that is done with
-- ARGV[5]   id of the oldest inbox entry to keep
-- ARGV[6]   n: how many streams get an entry with a number of ours
-- then      n times: index of the stream in KEYS, its first number
-- then      for each of KEYS[3..] the type it must have if it exists; 'any' if it is only deleted
-- then the writes, each a verb and its arguments (key: index in KEYS; count: of what follows it):
--   put    key count field value ...
--   drop   key count field ...
--   push   key count item ...
--   delete key
--   append key id limit data      id: '*' or '<number>-0'; limit: '0' for none, else about so many
--   trim   key id                 id of the oldest entry to keep
--   set    key ttl_s data
--
-- Replies: {'committed'} | {'already'} | {'fenced'} | {'behind'}
--        | {'type', key, its type, the type wanted} | {'number', key, its last id}

-- `unpack` fails near 8,000 values; even, so that a field stays with its value.
local CHUNK = 3998

local found = redis.call('TYPE', KEYS[1]).ok
if found ~= 'none' and found ~= 'hash' then return {'type', KEYS[1], found, 'hash'} end
local fence = redis.call('HMGET', KEYS[1], 'epoch', 'token', 'commit_no')
if fence[1] ~= ARGV[1] or fence[2] ~= ARGV[2] then return {'fenced'} end
if fence[3] == ARGV[3] then return {'already'} end
if tonumber(fence[3]) ~= tonumber(ARGV[3]) - 1 then return {'behind'} end

local types = {}
local numbered = tonumber(ARGV[6])
local at = 7 + 2 * numbered
for key = 2, #KEYS do
  local wanted = 'stream'
  if key > 2 then
    wanted = ARGV[at]
    at = at + 1
  end
  if wanted ~= 'any' then
    found = redis.call('TYPE', KEYS[key]).ok
    if found ~= 'none' and found ~= wanted then return {'type', KEYS[key], found, wanted} end
    types[key] = found
  end
end
for i = 7, 5 + 2 * numbered, 2 do
  local key = tonumber(ARGV[i])
  if types[key] == 'stream' then
    local info = redis.call('XINFO', 'STREAM', KEYS[key])
    for j = 1, #info, 2 do
      if info[j] == 'last-generated-id' then
        if tonumber(string.match(info[j + 1], '^%d+')) >= tonumber(ARGV[i + 1]) then
          return {'number', KEYS[key], info[j + 1]}
        end
        break
      end
    end
  end
end

redis.call('XTRIM', KEYS[2], 'MINID', ARGV[5])
redis.call('HSET', KEYS[1], 'commit_no', ARGV[3], 'cursor', ARGV[4])

local function in_chunks(command, key, first, last)
  for from = first, last, CHUNK do
    redis.call(command, key, unpack(ARGV, from, math.min(from + CHUNK - 1, last)))
  end
end

local MANY = {put = 'HSET', drop = 'HDEL', push = 'RPUSH'}
local size = #ARGV
while at <= size do
  local verb, key = ARGV[at], KEYS[tonumber(ARGV[at + 1])]
  local command = MANY[verb]
  if command then
    local last = at + 2 + tonumber(ARGV[at + 2])
    in_chunks(command, key, at + 3, last)
    at = last + 1
  elseif verb == 'append' then
    if ARGV[at + 3] == '0' then
      redis.call('XADD', key, ARGV[at + 2], 'e', ARGV[at + 4])
    else
      redis.call('XADD', key, 'MAXLEN', '~', ARGV[at + 3], ARGV[at + 2], 'e', ARGV[at + 4])
    end
    at = at + 5
  elseif verb == 'trim' then
    redis.call('XTRIM', key, 'MINID', ARGV[at + 2])
    at = at + 3
  elseif verb == 'set' then
    redis.call('SET', key, ARGV[at + 3], 'EX', ARGV[at + 2])
    at = at + 4
  else
    redis.call('DEL', key)
    at = at + 2
  end
end
return {'committed'}
