-- Take, keep or give back the leadership, in one atomic step.
--
-- KEYS[1]  leader: string, the token of the leader, expires
-- KEYS[2]  fence: hash of epoch, token, commit_no, cursor
--
-- ARGV[1]  verb: 'lead', 'renew' or 'resign'
-- ARGV[2]  token
-- ARGV[3]  epoch ('lead': not used)
-- ARGV[4]  term in milliseconds ('resign': not used)
--
-- Replies: {'leads', epoch} | {'follows'} | {'resigned'} | {'type', key, its type, the type wanted}
--
-- The first write is one that is allowed at maxmemory (DEL, PEXPIRE), and after it so is the rest.

local verb, token, epoch, term_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

for key, wanted in ipairs({'string', 'hash'}) do
  local found = redis.call('TYPE', KEYS[key]).ok
  if found ~= 'none' and found ~= wanted then return {'type', KEYS[key], found, wanted} end
end

local leader = redis.call('GET', KEYS[1])
local fence = redis.call('HMGET', KEYS[2], 'epoch', 'token')

local function take()
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], token, 'PX', term_ms)
end

if verb == 'lead' then
  if leader and leader ~= token then return {'follows'} end
  if fence[2] == token then  -- the answer to the first try was lost
    take()
    return {'leads', fence[1]}
  end
  take()
  epoch = string.format('%d', tonumber(fence[1] or '0') + 1)
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'token', token)
  redis.call('HSETNX', KEYS[2], 'commit_no', '0')
  redis.call('HSETNX', KEYS[2], 'cursor', '0-0')
  return {'leads', epoch}
end

-- Whoever takes the leader key writes its token into the fence: the fence alone tells.
if fence[1] ~= epoch or fence[2] ~= token then return {'follows'} end
if verb == 'renew' then
  take()
  return {'leads', epoch}
end
redis.call('HDEL', KEYS[2], 'token')
redis.call('DEL', KEYS[1])
return {'resigned'}
