// A virtual machine that has the proxy on localhost:8642, with an identity that may call an Azure OpenAI resource.

@description('The Azure OpenAI resource, in this resource group.')
param accountName string

@description('Whether to make it, with one deployment and without API keys. Else it must be there.')
param newAccount bool = false

@description('The subnet for the machine. It needs a way out to the resource and to the package.')
param subnetId string

@description('Where the .deb of a release lies.')
param packageUrl string

@description('Its digest, from SHA256SUMS.')
@minLength(64)
@maxLength(64)
param packageSha256 string

@secure()
param sshPublicKey string

param location string = resourceGroup().location
param name string = 'aoai-auth-proxy'
param size string = 'Standard_B2s'
param adminUsername string = 'azureuser'

@description('A user-assigned identity, which several machines can share. Without it the machine has one of its own.')
param identityName string = ''

@description('Whether the identity may list the models of regions (Reader on the subscription).')
param listModels bool = false

param modelName string = 'gpt-4o-mini'
param modelVersion string = '2024-07-18'
param capacity int = 10

module account '../bicep/account.bicep' = if (newAccount) {
  name: '${name}-account'
  params: {
    name: accountName
    location: location
    modelName: modelName
    modelVersion: modelVersion
    capacity: capacity
  }
}

resource shared 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = if (!empty(identityName)) {
  name: empty(identityName) ? 'none' : identityName
}

var clientId = empty(identityName) ? '' : shared!.properties.clientId
var template = loadTextContent('cloud-init.yaml')
var configured = replace(replace(replace(template, '{ENDPOINT}', 'https://${accountName}.openai.azure.com'), '{SUBSCRIPTION}', subscription().subscriptionId), '{CLIENT_ID}', clientId)
var cloudInit = replace(replace(configured, '{PACKAGE_URL}', packageUrl), '{PACKAGE_SHA256}', packageSha256)

resource interface 'Microsoft.Network/networkInterfaces@2023-11-01' = {
  name: name
  location: location
  properties: {
    ipConfigurations: [
      {
        name: 'internal'
        properties: {
          privateIPAllocationMethod: 'Dynamic'
          subnet: {
            id: subnetId
          }
        }
      }
    ]
  }
}

resource machine 'Microsoft.Compute/virtualMachines@2024-03-01' = {
  name: name
  location: location
  identity: empty(identityName) ? {
    type: 'SystemAssigned'
  } : {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${shared!.id}': {}
    }
  }
  properties: {
    hardwareProfile: {
      vmSize: size
    }
    osProfile: {
      computerName: name
      adminUsername: adminUsername
      customData: base64(cloudInit)
      linuxConfiguration: {
        disablePasswordAuthentication: true
        ssh: {
          publicKeys: [
            {
              path: '/home/${adminUsername}/.ssh/authorized_keys'
              keyData: sshPublicKey
            }
          ]
        }
      }
    }
    securityProfile: {
      securityType: 'TrustedLaunch'
      uefiSettings: {
        secureBootEnabled: true
        vTpmEnabled: true
      }
    }
    storageProfile: {
      imageReference: {
        publisher: 'Debian'
        offer: 'debian-12'
        sku: '12-gen2'
        version: 'latest'
      }
      osDisk: {
        createOption: 'FromImage'
        managedDisk: {
          storageAccountType: 'Premium_LRS'
        }
      }
    }
    networkProfile: {
      networkInterfaces: [
        {
          id: interface.id
        }
      ]
    }
  }
}

var principalId = empty(identityName) ? machine.identity.principalId : shared!.properties.principalId

module roles '../bicep/account-roles.bicep' = {
  name: '${name}-roles'
  params: {
    accountName: accountName
    principalId: principalId
  }
  dependsOn: [
    account
  ]
}

module models '../bicep/subscription-reader.bicep' = if (listModels) {
  name: '${name}-models'
  scope: subscription()
  params: {
    principalId: principalId
  }
}

output principalId string = principalId
